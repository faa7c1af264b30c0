-- question: is the student within a small KL of its teacher (C2)?
-- grain: one row per student, teacher and direction whose KL is too large
-- params:
--   datasets: VARCHAR = NULL -- OPD datasets whose sampling policies are the students: names comma-separated; NULL: all in use
--   student: POLICY = NULL -- the student; NULL: every policy whose rollouts stand in OPD datasets
--   teacher: POLICY = NULL -- the teacher; NULL: every policy that scored the student, or it scored
--   max_kl: DOUBLE = 0.5 -- largest KL, nats per token
--   any_sampling: BOOLEAN = false -- take rollouts at other temperatures or truncated too (biased)
-- columns: student, teacher, direction, prompts, rollouts, tokens, kl, standard_error
SELECT *
FROM student_teacher_kl($datasets, $student, $teacher, $any_sampling)
WHERE kl > $max_kl
ORDER BY student, teacher, direction;

-- figures: tokens and KL, by student, teacher and direction
-- skipped when: no student of an OPD dataset and its teacher scored each other
SELECT tokens AS examined, * EXCLUDE (tokens)
FROM student_teacher_kl($datasets, $student, $teacher, $any_sampling)
ORDER BY student, teacher, direction

-- question: is the student within a small KL of its teacher (C2)?
-- grain: one row per student, teacher and direction whose KL is too large
-- params:
--   datasets: VARCHAR = all -- OPD datasets whose sampling policies are the students
--   student: POLICY = any -- the student; any: every policy whose rollouts stand in OPD datasets
--   teacher: POLICY = any -- the teacher; any: every policy that scored the student, or it scored
--   max_kl: DOUBLE = 0.5 -- largest KL, nats per token
--   any_sampling: BOOLEAN = false -- take rollouts at other temperatures or truncated too (biased)
-- columns: student, teacher, direction, rollouts, tokens, kl, standard_error
SELECT *
FROM student_teacher_kl($datasets, $student, $teacher, $any_sampling)
WHERE kl > $max_kl
ORDER BY student, teacher, direction

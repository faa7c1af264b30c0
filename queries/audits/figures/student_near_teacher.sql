-- skipped when: no student of an OPD dataset and its teacher scored each other
SELECT tokens AS examined, * EXCLUDE (tokens)
FROM student_teacher_kl($datasets, $student, $teacher, $any_sampling)
ORDER BY student, teacher, direction

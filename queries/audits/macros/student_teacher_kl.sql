-- KL, both ways where stored, of students and teachers: `student` is an id, or NULL: every policy
-- whose rollouts stand in the named on-policy datasets with a teacher's scores; `teacher` is an id,
-- or NULL: any.
-- student, teacher, direction, prompts, rollouts, tokens, kl, standard_error.
CREATE MACRO student_teacher_kl(wanted, student, teacher, any_sampling) AS TABLE
    WITH students AS (
        SELECT policy_id
        FROM raw.policies
        WHERE CASE
            WHEN student IS NOT NULL THEN policy_id = student
            ELSE policy_id IN (
                SELECT s.policy_id
                FROM dataset_sources AS s
                INNER JOIN audited_datasets(wanted) AS a USING (dataset_id)
                WHERE a.on_policy AND a.has_topk
            )
        END
    ),
    kls AS MATERIALIZED (SELECT * FROM sampled_kl(any_sampling)),
    directed AS (
        SELECT
            sampler_id AS student_id, scorer_id AS teacher_id, 'student || teacher' AS direction, *
        FROM kls
        UNION ALL
        SELECT scorer_id, sampler_id, 'teacher || student', *
        FROM kls
    )
    SELECT
        coalesce(p.name, d.student_id) AS student,
        coalesce(t.name, d.teacher_id) AS teacher,
        d.direction, d.prompts, d.rollouts, d.tokens, round(d.kl, 4) AS kl,
        round(d.standard_error, 4) AS standard_error
    FROM directed AS d
    INNER JOIN students AS s ON d.student_id = s.policy_id
    LEFT JOIN raw.policies AS p ON d.student_id = p.policy_id
    LEFT JOIN raw.policies AS t ON d.teacher_id = t.policy_id
    WHERE teacher IS NULL OR d.teacher_id = teacher

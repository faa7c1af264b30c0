-- Whether a verdict counts its rollout as right, as pass@k, pass rates and `correct_only` take it:
-- by the outcome where the verifier judged the answer; a scored reward, which is neither right nor
-- wrong, counts as right above 0. NULL where nobody judged (timeout, error, no verdict) and for
-- rewards that were imported (reported), whose scale is not known.
CREATE MACRO is_correct(outcome, reward) AS
    CASE
        WHEN outcome = 'correct' THEN true
        WHEN outcome IN ('wrong', 'unparseable') THEN false
        WHEN outcome = 'scored' THEN reward > 0
    END

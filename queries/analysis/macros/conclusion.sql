-- What a comparison shows at 5%, given its p-values: better or worse (p_different), equivalent within
-- the margin (p_equivalent), both, or neither. A difference that is not significant is not called
-- none: that takes p_equivalent.
CREATE MACRO conclusion(difference, p_different, p_equivalent) AS
    CASE
        WHEN p_different IS NULL THEN 'unknown'
        ELSE concat_ws(
            ', ',
            CASE
                WHEN p_different >= 0.05 THEN
                    CASE WHEN coalesce(p_equivalent, 1) >= 0.05 THEN 'not decided' END
                WHEN difference > 0 THEN 'better'
                ELSE 'worse'
            END,
            CASE WHEN p_equivalent < 0.05 THEN 'equivalent' END
        )
    END

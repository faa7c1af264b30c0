-- Resamples of 0 .. size-1 with replacement, for several sizes at once: in each of `resamples`, size
-- draws of a place, so that the counts of places are exactly multinomial.
-- Four draws of 32 bits come from one md5 of seed, resample and number, so a seed gives the same
-- draws on any machine and version; bits x size / 2^32 is uniform to within size / 2^32.
-- size, resample, place.
CREATE MACRO bootstrap_draws(sizes, resamples, seed) AS TABLE
    WITH words AS (
        SELECT
            s.size,
            r.resample,
            4 * q.quarter AS first_draw,
            md5_number(concat(seed, '/', r.resample, '/', q.quarter)) AS word
        FROM (SELECT unnest(sizes) AS size) AS s
        CROSS JOIN range(resamples) AS r (resample)
        CROSS JOIN LATERAL range((s.size + 3) // 4) AS q (quarter)
    ),
    draws AS (
        SELECT
            size,
            resample,
            first_draw + unnest([0, 1, 2, 3]) AS draw,
            unnest([
                word & 4294967295,
                (word >> 32) & 4294967295,
                (word >> 64) & 4294967295,
                (word >> 96) & 4294967295
            ])::BIGINT AS bits
        FROM words
    )
    SELECT size, resample, (bits * size) >> 32 AS place
    FROM draws
    WHERE draw < size

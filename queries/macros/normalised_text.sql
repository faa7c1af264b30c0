-- Text for comparisons: lower case, composed Unicode, full-width letters and digits as ASCII,
-- words parted by one space. Punctuation is dropped, thousands separators close up, but operators
-- stay, as words of their own: 5 + 6 is another question than 5 - 6.
CREATE MACRO normalised_text(text) AS
    trim(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(
        CASE
            WHEN strlen(text) = length(text) THEN lower(text)
            ELSE lower(translate(
                nfc_normalize(text),
                '０１２３４５６７８９ＡＢＣＤＥＦＧＨＩＪＫＬＭＮＯＰＱＲＳＴＵＶＷＸＹＺａｂｃｄｅｆｇｈｉｊｋｌｍｎｏｐｑｒｓｔｕｖｗｘｙｚ＋－＊／＝＜＞−–—',
                '0123456789abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz+-*/=<>---'
            ))
        END,
        '[^ \p{L}\p{M}\p{N}\p{Sm}*/^,-]+', ' ', 'g'),
        ',(\d\d\d)\b', '\1', 'g'),
        '(\pL\pL)-+|-+(\pL\pL)', '\1 \2', 'g'),
        '([\p{Sm}*/^-])', ' \1 ', 'g'),
        '[ ,]{2,}|,', ' ', 'g'))

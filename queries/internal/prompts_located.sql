-- question: in which file, and which row of it, does the prompt of each row lie?
-- grain: one row per row
-- columns: row, prompt_file, prompt_position
-- _selected: row and prompt_id; _file_rows: rows of the prompts' files; _prompts_files: their paths,
-- numbered.
SELECT s.row, f.i AS prompt_file, p.file_row_number AS prompt_position
FROM _selected AS s
INNER JOIN _file_rows AS p USING (prompt_id)
INNER JOIN _prompts_files AS f ON p.filename = f.path

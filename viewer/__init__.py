"""`s2d view`: a read-only web server over one store. `pages/` has a file per page, `templates/` its
HTML, queries/view/ its SQL; `charts`, `stage_graph`, `text` and `latex` know nothing of the server.
"""

"""Audits: questions about a store whose answer should be no row at all.

Each is a query in queries/audits/ (two are Python, where SQL is not the tool); see docs/audits.md.

Example:
    >>> from s2d_store.audits import audit
    >>> for result in audit(store, ["contamination_exact", "duplicate_rollouts"]):
    ...     print(result.name, result.status, result.offending)
    contamination_exact skipped 0
    duplicate_rollouts passed 0
    >>> audit(store, ["degenerate_rollouts"], params={"max_truncated": 0.2})[0].figures
    [{'examined': 24, 'policy': 'teacher', 'purpose': 'train', 'truncated': 0.0, 'empty': 0.0, \
'looping': 0.0}]
"""

from s2d_store.audits.run import Audit, AuditResult, audit, catalog, find

__all__ = ["Audit", "AuditResult", "audit", "catalog", "find"]

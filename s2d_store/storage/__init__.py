"""Where bytes lie and who holds what: local disks, object stores, locks. Knows no table."""

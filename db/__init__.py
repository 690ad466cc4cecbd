"""The ledger: what was asked for, what is being made, and what has been made."""

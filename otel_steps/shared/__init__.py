"""Budgets that several processes and hosts share, kept in Redis."""

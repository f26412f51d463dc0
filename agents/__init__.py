"""Agents and what they are measured against: bounds and look-ahead. Never imported by sgym."""

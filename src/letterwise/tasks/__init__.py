"""Spelling, letter count and letter position: templates, ground truth and answer parsing; pure functions, no model."""

"""Judges stack profilers by programs that know where their own time went."""

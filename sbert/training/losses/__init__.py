"""Objectives, one module a family."""

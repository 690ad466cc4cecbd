"""Faults, injected into real processes on a real queue: nothing is lost, and nothing made twice."""

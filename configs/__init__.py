"""What every part shares: a job's parameters, the samplers, settings and shipped files. Imports no other package."""

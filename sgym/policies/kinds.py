"""Numbers of the built-in schedulers: the `kind` of a POLICY."""

NEUTRAL, SPF, SJF, SRPT, EDF, LLF, SLACK_VICTIM, VTC, RANDOM = range(9)

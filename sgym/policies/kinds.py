"""Numbers of the built-in schedulers: the `kind` of a POLICY."""

NEUTRAL, SPF, SJF, SRPT, EDF, LLF, SLACK_VICTIM, VTC, RANDOM = range(9)
LTR, SLACK_CHUNK, ANDES, ANDES_SMOOTH, PAST_FUTURE, FASTSERVE = range(9, 15)

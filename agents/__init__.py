"""Learning agents for the environments of sgym; they run from a checkout, beside the library."""

"""milib beside other libraries: what each takes on one machine."""

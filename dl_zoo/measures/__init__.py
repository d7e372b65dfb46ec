"""How good what a net made up is, beside what is real: functions of tensors, one idea a file; torch alone."""

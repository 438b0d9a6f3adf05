"""Making the objective small: the loop, optimizer, schedule, precision, devices, exact resume."""

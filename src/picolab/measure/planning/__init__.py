"""What will a training need, before anything is started: memory of each device, time, money and disk, by arithmetic alone."""

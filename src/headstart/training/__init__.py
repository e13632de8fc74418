"""The loop that executes plans: phases, optimiser, schedule, checkpoints, engines."""

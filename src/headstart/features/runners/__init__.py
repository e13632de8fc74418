"""Ways to run a frozen network: torch on any device, OpenVINO on a CPU."""

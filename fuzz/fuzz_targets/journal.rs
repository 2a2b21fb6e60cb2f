#![no_main]

steer_fuzz::target!();

//! What software does to packets, seen from outside, with `etherparse` as the one who judges.

mod hostile;
mod packets;
mod rx;
mod sample;
mod tx;

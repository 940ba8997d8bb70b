//! vring ring

//! vring net

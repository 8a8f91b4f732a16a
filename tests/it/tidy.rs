//! (local)

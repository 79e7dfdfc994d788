//! ssh: filled in below.

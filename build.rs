//! Tells cargo that the embedded migrations are part of the program: a new SQL file alone rebuilds it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}

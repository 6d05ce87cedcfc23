//! Decoding figures; `cargo bench -p kinetic-analyzer --bench decode`.

fn main() {
    divan::main();
}

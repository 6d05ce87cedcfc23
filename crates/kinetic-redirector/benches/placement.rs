//! Placing a million sources among a thousand analyzers, and again what one of them had.
//! `cargo bench -p kinetic-redirector --bench placement`

use divan::Bencher;

#[allow(dead_code, reason = "shared with an example that uses all of it")]
mod large;

fn main() {
    divan::main();
}

const SIZES: [(usize, usize); 2] = [(10_000, 10), (1_000_000, 1_000)];

#[divan::bench(args = SIZES, sample_count = 3, sample_size = 1)]
fn place_cold_in_steps(bencher: Bencher<'_, '_>, (customers, analyzers): (usize, usize)) {
    let map = large::map("r1", 1, customers);
    bencher.with_inputs(|| large::Large::registered(map.clone(), analyzers)).bench_refs(|large| {
        large.place();
        assert_eq!(large.machine.stats().sources_unowned, 0);
    });
}

#[divan::bench(args = SIZES, sample_count = 3, sample_size = 1)]
fn place_again_what_one_had(bencher: Bencher<'_, '_>, (customers, analyzers): (usize, usize)) {
    let mut large = large::Large::registered(large::map("r1", 1, customers), analyzers);
    large.place();
    let mut lost = 0;
    bencher.bench_local(|| {
        large.lose(lost);
        lost += 1;
        large.settle();
        assert_eq!(large.machine.stats().sources_unowned, 0);
    });
}

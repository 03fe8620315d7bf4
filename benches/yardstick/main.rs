mod bound;
mod settling;
use outcomed::polling::estimate::{ages, lifetimes::Lifetimes};
use outcomed::polling::plan::schedule::Schedule;

fn main() {
    for text in std::env::args().skip(1) {
        let s: settling::Settling = text.parse().unwrap();
        let grid = bound::Grid::new(&s);
        let cells: Vec<f64> = (0..ages::POINTS - 1)
            .map(|c| s.settled(ages::age(c + 1)) - s.settled(ages::age(c)))
            .collect();
        let life = Lifetimes::of_cells(&cells);
        println!("{text}");
        for load in [60.0, 200.0, 500.0, 800.0] {
            let (b, mu) = grid.bound(1000.0 / load);
            let sch = Schedule::solve(&life, mu);
            let (looks, delay) = sch.expected(&life);
            println!(
                "{load} bound {b:.3} price {mu:.4}; ours cost {:.4} expected looks {looks:.2} of {:.2} delay {delay:.3} -> {:.3} gap(15)={:.3}",
                sch.cost() - mu * 1000.0 / load,
                1000.0 / load,
                delay + mu * (looks - 1000.0 / load),
                sch.gap(ages::place(15.0))
            );
        }
        for n in [500.0, 1000.0, 2000.0, 3000.0] {
            println!("burst {n}: {:.3}", grid.burst(n, 1000.0, 5));
        }
    }
}

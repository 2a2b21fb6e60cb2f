//! The guarantees that only time can show.
use super::*;
use crate::simulate::catalogue;
use crate::simulate::scenario::Scenario;

#[test]
#[ignore]
fn show() {
    let names = std::env::var("SCEN").unwrap_or("long16".into());
    let pols = std::env::var("POL").ok();
    for name in names.split(',') {
        let Some(Scenario::Traffic(traffic)) = catalogue::find(name) else { panic!() };
        let policies: Vec<TrafficPolicy> = TrafficPolicy::ALL.into_iter().filter(|p| pols.as_ref().is_none_or(|s| s.split(',').any(|n| n == p.name()))).collect();
        let begun = std::time::Instant::now();
        let runs: Vec<Vec<TrafficRun>> = (1..=3).map(|s| run(&traffic, &policies, &Policy::default(), s, &mut |_| {})).collect();
        println!("{name} {:?}", begun.elapsed());
        for (i, p) in policies.iter().enumerate() {
            let f = TrafficFigures::mean(&runs.iter().map(|r| r[i].figures).collect::<Vec<_>>());
            println!("{:18} {:.3} {:.2} | {:.2} {:.2} {:.2} | {:.1} {:.1} {:.0} {:?}", p.name(), f.aligned, f.distance_per_packet, f.max_over_avg, f.p99_max_over_avg, f.consumer_max_over_avg, f.moves_per_s, f.moved_load_percent_per_s, f.irq_moves_per_min, f.hand_off.map(|h| (h.share, h.ipi_per_packet, h.distance_per_packet)));
        }
    }
}

//! What a random run is made of.

use std::time::Duration;

use super::chaos::Chaos;
use crate::seed::Rng;
use crate::sim::WorldSettings;

/// All that a random run depends on.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// Where everything comes from that is left to chance.
    pub seed: u64,
    /// The cluster, its network and its disks.
    pub world: WorldSettings,
    /// For how long clients work under faults, in virtual time.
    pub duration: Duration,
    /// What goes wrong, and how often.
    pub chaos: Chaos,
    /// Scripts that work at the same time on each client.
    pub scripts: u8,
    /// Longest pause of a script between two transactions.
    pub pause_max: Duration,
}

impl RunSettings {
    /// What a seed stands for: a cluster of about a dozen nodes for 60 s.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let micros = Duration::from_micros;
        let storages = rng.between(1, 6) as u8;
        let replicas = rng.below(u64::from(storages.min(3))) as u32;
        // The table grows with the partitions, and is sent as a whole now and then.
        let partitions = rng.between(1, 12) as u32;
        let clients = rng.between(2, 4) as u8;
        let latency_max = [120, 300, 1000, 4000][rng.below(4) as usize];
        let sync_delay = [100, 400, 2000, 8000][rng.below(4) as usize];
        Self {
            seed,
            world: WorldSettings {
                masters: [1, 2, 2, 3, 3, 3][rng.below(6) as usize],
                storages,
                replicas,
                clients,
                puppets: 1,
                partitions,
                seed: rng.next(),
                latency: (micros(50), micros(latency_max)),
                sync_delay: micros(sync_delay),
                cache_bytes: 64 << 10,
                is_terse: true,
                keeps_points: false,
                ..WorldSettings::default()
            },
            duration: Duration::from_secs(60),
            chaos: Chaos::at_random(&mut rng),
            scripts: rng.between(1, 2) as u8,
            pause_max: Duration::from_millis([200, 400, 800][rng.below(3) as usize]),
        }
    }
}

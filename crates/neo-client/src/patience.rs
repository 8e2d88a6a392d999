//! Whether to look for an answer for a moment before sleeping: to be woken up takes as long as many
//! answers do, but looking costs the processor.

/// After an answer that was not there in time, so many waits sleep at once, at most: twice as many each
/// time.
const ASLEEP_MAX: u32 = 16;

/// Learnt from how long answers take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Waits that sleep at once, and how many it will be after the next answer that is slow.
    asleep: u32,
    next: u32,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self { asleep: 0, next: 1 }
    }

    /// Whether to look this time.
    pub(crate) const fn looks(&mut self) -> bool {
        let looks = self.asleep == 0;
        self.asleep = self.asleep.saturating_sub(1);
        looks
    }

    /// Whether what was looked for was there in time.
    pub(crate) fn learn(&mut self, was_there: bool) {
        if was_there {
            self.next = 1;
        } else {
            self.asleep = self.next;
            self.next = (self.next * 2).min(ASLEEP_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_in_vain_looks_less_often() {
        let mut patience = Patience::new();
        let mut asleep = Vec::new();
        for _ in 0..7 {
            assert!(patience.looks());
            patience.learn(false);
            let naps = std::iter::repeat_with(|| patience.looks());
            asleep.push(naps.take_while(|looks| !looks).count());
        }
        assert_eq!(asleep, [1, 2, 4, 8, 16, 16, 16]);
        patience.learn(true);
        assert!(patience.looks());
        patience.learn(false);
        assert!(!patience.looks() && patience.looks());
    }
}

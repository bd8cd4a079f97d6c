//! What was spent, what is reserved for requests on their way, and whether another one fits into
//! the budget.

use super::service::{Budget, Tokens};

/// Prices are for so many tokens.
const PRICED: f64 = 1e6;

pub(super) struct Ledger {
    budget: Budget,
    used: Tokens,
    perhaps: Tokens,
    reserved: Tokens,
}

impl Ledger {
    pub fn new(budget: Budget) -> Self {
        let none = Tokens::default();
        Self { budget, used: none, perhaps: none, reserved: none }
    }

    pub fn used(&self) -> Tokens {
        self.used
    }

    pub fn perhaps(&self) -> Tokens {
        self.perhaps
    }

    /// Of what was spent for sure or perhaps.
    pub fn cost(&self) -> f64 {
        self.price(self.used.and(self.perhaps))
    }

    /// What earlier runs spent.
    pub fn spent_before(&mut self, used: Tokens) {
        self.used = self.used.and(used);
    }

    /// Whether the budget holds even if all that is on its way costs the most it can, and this too.
    pub fn fits(&self, most: Tokens) -> bool {
        let all = self.used.and(self.perhaps).and(self.reserved).and(most);
        // Sums of prices are rounded.
        let within = |limit: f64| self.price(all) <= limit * (1.0 + 1e-12);
        self.budget.tokens.is_none_or(|limit| all.total() <= limit)
            && self.budget.cost.is_none_or(within)
    }

    pub fn reserve(&mut self, most: Tokens) {
        self.reserved = self.reserved.and(most);
    }

    /// In place of what was reserved.
    pub fn settle(&mut self, most: Tokens, used: Tokens, is_sure: bool) {
        self.reserved = self.reserved.without(most);
        let spent = if is_sure { &mut self.used } else { &mut self.perhaps };
        *spent = spent.and(used);
    }

    /// Why a call of `most` does not fit.
    pub fn refusal(&self, most: Tokens) -> String {
        let spent = self.used.and(self.perhaps);
        let of_tokens = self.budget.tokens.map(|limit| {
            format!(
                "{} of {limit} tokens are spent, and the next request may take {}",
                spent.total(),
                most.total()
            )
        });
        let of_cost = self.budget.cost.map(|limit| {
            let (cost, next) = (self.price(spent), self.price(most));
            format!("{cost:.4} of {limit} are paid, and the next request may cost {next:.4}")
        });
        of_tokens.into_iter().chain(of_cost).collect::<Vec<_>>().join("; ")
    }

    fn price(&self, tokens: Tokens) -> f64 {
        (tokens.prompt as f64 * self.budget.price_prompt
            + tokens.completion as f64 * self.budget.price_completion)
            / PRICED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(prompt: u64, completion: u64) -> Tokens {
        Tokens { prompt, completion }
    }

    #[test]
    fn what_is_on_its_way_is_reserved_and_settled_exactly() {
        let mut ledger = Ledger::new(Budget { tokens: Some(100), ..Budget::default() });
        ledger.spent_before(tokens(10, 10));
        assert!(ledger.fits(tokens(40, 40)) && !ledger.fits(tokens(40, 41)));
        ledger.reserve(tokens(30, 20));
        assert!(ledger.fits(tokens(30, 0)) && !ledger.fits(tokens(31, 0)));
        ledger.settle(tokens(30, 20), tokens(30, 5), true);
        assert_eq!(ledger.used(), tokens(40, 15));
        assert!(ledger.fits(tokens(45, 0)) && !ledger.fits(tokens(46, 0)));
        ledger.reserve(tokens(5, 5));
        ledger.settle(tokens(5, 5), tokens(5, 5), false);
        assert_eq!((ledger.used(), ledger.perhaps()), (tokens(40, 15), tokens(5, 5)));
        assert!(ledger.fits(tokens(35, 0)) && !ledger.fits(tokens(36, 0)));
        assert!(ledger.refusal(tokens(36, 0)).contains("65 of 100 tokens are spent"));
    }

    #[test]
    fn money_is_counted_by_both_prices() {
        let budget = Budget {
            tokens: None,
            cost: Some(0.3),
            price_prompt: 100_000.0,
            price_completion: 200_000.0,
        };
        let mut ledger = Ledger::new(budget);
        for _ in 0..2 {
            assert!(ledger.fits(tokens(1, 0)));
            ledger.reserve(tokens(1, 0));
            ledger.settle(tokens(1, 0), tokens(1, 0), true);
        }
        assert!(ledger.fits(tokens(1, 0)), "0.1 + 0.2 is 0.3");
        assert!(!ledger.fits(tokens(0, 1)));
        assert!((ledger.cost() - 0.2).abs() < 1e-12);
        assert!(ledger.refusal(tokens(0, 1)).contains("0.2000 of 0.3 are paid"));
    }
}

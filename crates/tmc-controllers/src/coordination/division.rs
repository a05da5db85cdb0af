//! How many replicas each of several places runs.

use std::cmp::Reverse;

use tmc_api::scheduling::DivisionStrategy;

/// A place that takes part in a division.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its part in relation to the others: the weight of a user, or free capacity. Means nothing
    /// with `Equal`.
    pub weight: u64,
    /// How many replicas it was given before; none if it is new.
    pub held: u64,
}

/// Splits `total` replicas over places, given in a stable order: one share a place, in that order.
/// Without places there are no shares; else the shares sum to exactly `total`.
///
/// `Equal` and `Weighted` give each place its exact part, rounded down or up. Of all ways to round,
/// one is taken that moves the fewest replicas away from where they are; among places that hold
/// nothing more than their part, the largest fractions are rounded up, and of the same the first.
///
/// `Capacity` leaves in place what runs, because free capacity is what is free beside it: only
/// replicas that are new (or were on a place that left) are spread, by free capacity; if there are
/// fewer, each place gives up its part. So a changed capacity alone moves nothing.
///
/// Where every weight is zero (nothing matches, nothing is known), all weigh the same.
pub fn divide(total: u64, strategy: DivisionStrategy, places: &[Place]) -> Vec<u64> {
    // Beyond that nobody holds replicas, whatever stands in an annotation.
    let most = u64::from(u32::MAX);
    let held: Vec<u64> = places.iter().map(|place| place.held.min(most)).collect();
    let weights: Vec<u64> = places.iter().map(|place| place.weight).collect();
    match strategy {
        DivisionStrategy::Equal => apportion(total, &vec![1; places.len()], &held),
        DivisionStrategy::Weighted => apportion(total, &weights, &held),
        DivisionStrategy::Capacity => by_capacity(total, &weights, &held),
    }
}

fn by_capacity(total: u64, free: &[u64], held: &[u64]) -> Vec<u64> {
    let running: u64 = held.iter().fold(0, |sum, n| sum.saturating_add(*n));
    let nothing = vec![0; held.len()];
    let pairs = |changes: Vec<u64>| held.iter().copied().zip(changes);
    if total >= running {
        let more = apportion(total - running, free, &nothing);
        pairs(more).map(|(held, more)| held + more).collect()
    } else {
        // No place is asked for more than it has: its exact part of what goes is at most that.
        let fewer = apportion(running - total, held, &nothing);
        pairs(fewer).map(|(held, fewer)| held - fewer).collect()
    }
}

/// Each place's exact part, rounded so that the parts sum to `total`.
fn apportion(total: u64, weights: &[u64], held: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if weights.is_empty() {
        return Vec::new();
    }
    if sum == 0 {
        return apportion(total, &vec![1; weights.len()], held);
    }
    let exact = |weight: &u64| u128::from(total) * u128::from(*weight);
    // At most `total`, because a weight is at most the sum.
    let down = |weight: &u64| u64::try_from(exact(weight) / sum).unwrap_or(total);
    let mut shares: Vec<u64> = weights.iter().map(down).collect();
    let left = total - shares.iter().sum::<u64>();
    let mut up: Vec<usize> = (0..weights.len())
        .filter(|&place| exact(&weights[place]) % sum > 0)
        .collect();
    up.sort_by_key(|&place| {
        let keeps = held[place] > shares[place];
        (!keeps, Reverse(exact(&weights[place]) % sum), place)
    });
    for place in up
        .into_iter()
        .take(usize::try_from(left).unwrap_or(usize::MAX))
    {
        shares[place] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use DivisionStrategy::{Capacity, Equal, Weighted};

    fn places(weights: &[u64], held: &[u64]) -> Vec<Place> {
        let pairs = weights.iter().zip(held);
        pairs
            .map(|(&weight, &held)| Place { weight, held })
            .collect()
    }

    #[rstest]
    #[case::evenly(Equal, 6, &[0, 0, 0], &[0, 0, 0], &[2, 2, 2])]
    #[case::the_remainder_goes_to_the_first(Equal, 5, &[0, 0, 0], &[0, 0, 0], &[2, 2, 1])]
    #[case::fewer_than_places(Equal, 2, &[0, 0, 0], &[0, 0, 0], &[1, 1, 0])]
    #[case::none(Equal, 0, &[0, 0], &[3, 2], &[0, 0])]
    #[case::the_remainder_stays_where_it_is(Equal, 5, &[0, 0], &[2, 3], &[2, 3])]
    #[case::a_new_place_takes_from_each(Equal, 6, &[0, 0, 0], &[3, 3, 0], &[2, 2, 2])]
    #[case::a_place_that_left_is_shared(Equal, 7, &[0, 0], &[2, 2], &[4, 3])]
    #[case::by_weight(Weighted, 10, &[3, 1, 1], &[0, 0, 0], &[6, 2, 2])]
    #[case::the_largest_fraction_is_rounded_up(Weighted, 4, &[3, 3, 1], &[0, 0, 0], &[2, 2, 0])]
    #[case::unless_it_runs_elsewhere(Weighted, 1, &[3, 1], &[0, 1], &[0, 1])]
    #[case::a_whole_part_is_not_rounded(Weighted, 2, &[2, 1, 1], &[0, 0, 1], &[1, 0, 1])]
    #[case::no_weight_no_replicas(Weighted, 3, &[0, 1], &[0, 0], &[0, 3])]
    #[case::no_weight_anywhere(Weighted, 3, &[0, 0], &[0, 0], &[2, 1])]
    #[case::by_free_capacity(Capacity, 10, &[8000, 2000], &[0, 0], &[8, 2])]
    #[case::what_runs_stays(Capacity, 10, &[0, 9000], &[8, 2], &[8, 2])]
    #[case::only_new_ones_are_spread(Capacity, 12, &[1000, 1000], &[8, 2], &[9, 3])]
    #[case::each_gives_up_its_part(Capacity, 5, &[1, 9], &[8, 2], &[4, 1])]
    #[case::nothing_is_known(Capacity, 5, &[0, 0], &[0, 0], &[3, 2])]
    #[case::nowhere(Equal, 5, &[], &[], &[])]
    fn replicas_are_divided(
        #[case] strategy: DivisionStrategy,
        #[case] total: u64,
        #[case] weights: &[u64],
        #[case] held: &[u64],
        #[case] expected: &[u64],
    ) {
        let shares = divide(total, strategy, &places(weights, held));
        assert_eq!(shares, expected);
        let again = divide(total, strategy, &places(weights, &shares));
        assert_eq!(again, shares, "a second pass moves nothing");
    }

    #[test]
    fn the_largest_numbers_are_divided_exactly() {
        let places = places(&[u64::MAX, u64::MAX, 1], &[0, u64::MAX, u64::MAX]);
        for strategy in [Equal, Weighted, Capacity] {
            assert_eq!(divide(3, strategy, &places).iter().sum::<u64>(), 3);
            let shares = divide(u64::MAX, strategy, &places);
            assert_eq!(
                shares.iter().map(|n| u128::from(*n)).sum::<u128>(),
                u128::from(u64::MAX)
            );
        }
    }

    fn moved(from: &[u64], to: &[u64]) -> u64 {
        from.iter().zip(to).map(|(a, b)| a.abs_diff(*b)).sum()
    }

    /// Every way to round the exact parts so that they sum to the total.
    fn roundings(total: u64, weights: &[u64]) -> Vec<Vec<u64>> {
        let sum: u64 = weights.iter().sum();
        let mut all = vec![vec![]];
        for weight in weights {
            let (down, rest) = (total * weight / sum, total * weight % sum);
            all = all
                .into_iter()
                .flat_map(|shares: Vec<u64>| {
                    let with = |n| [shares.clone(), vec![n]].concat();
                    let up = (rest > 0).then(|| with(down + 1));
                    [with(down)].into_iter().chain(up)
                })
                .collect();
        }
        all.retain(|shares| shares.iter().sum::<u64>() == total);
        all
    }

    fn strategies() -> impl Strategy<Value = DivisionStrategy> {
        prop::sample::select(vec![Equal, Weighted, Capacity])
    }

    proptest! {
        #[test]
        fn shares_sum_to_the_total_and_are_final(
            strategy in strategies(), total in 0_u64..2_000_000,
            given in prop::collection::vec((0_u64..200_000, 0_u64..1000), 1..17),
        ) {
            let (weights, held): (Vec<_>, Vec<_>) = given.into_iter().unzip();
            let shares = divide(total, strategy, &places(&weights, &held));
            prop_assert_eq!(shares.iter().sum::<u64>(), total);
            prop_assert_eq!(divide(total, strategy, &places(&weights, &shares)), shares);
        }

        #[test]
        fn no_other_rounding_moves_less(
            total in 0_u64..40, given in prop::collection::vec((1_u64..5, 0_u64..20), 1..6),
        ) {
            let (weights, held): (Vec<_>, Vec<_>) = given.into_iter().unzip();
            let shares = divide(total, Weighted, &places(&weights, &held));
            let all = roundings(total, &weights);
            prop_assert!(all.contains(&shares), "{shares:?} of {all:?}");
            let least = all.iter().map(|other| moved(&held, other)).min();
            prop_assert_eq!(Some(moved(&held, &shares)), least);
        }

        #[test]
        fn one_replica_more_or_less_changes_one_share(
            count in 1_usize..17, start in 0_u64..50, steps in prop::collection::vec(any::<bool>(), 0..40),
        ) {
            let even = |total, held: &[u64]| divide(total, Equal, &places(&vec![1; count], held));
            let mut total = start;
            let mut shares = even(total, &vec![0; count]);
            for up in steps {
                total = if up { total + 1 } else { total.saturating_sub(1) };
                let next = even(total, &shares);
                prop_assert!(moved(&shares, &next) <= 1, "{:?} to {:?}", shares, next);
                shares = next;
            }
        }

        #[test]
        fn with_capacity_only_the_difference_moves(
            total in 0_u64..100, given in prop::collection::vec((0_u64..5000, 0_u64..20), 1..17),
        ) {
            let (weights, held): (Vec<_>, Vec<_>) = given.into_iter().unzip();
            let shares = divide(total, Capacity, &places(&weights, &held));
            prop_assert_eq!(moved(&held, &shares), total.abs_diff(held.iter().sum()));
        }
    }
}

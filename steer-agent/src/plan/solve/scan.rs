//! Loops over rows of the cost matrix, in singles and written so that they are vectorised.

use super::NONE;
use super::instance::single;
use super::state::smaller;

/// Values that are looked at side by side.
const STRANDS: usize = 8;

/// A number that sorts as `key` does, which must not be negative, the greatest first and then by
/// `index`: one comparison instead of two, and half of what there is to move.
pub(super) fn greatest_first(key: f64, index: usize) -> u64 {
    u64::from(!single(key).to_bits()) << 32 | index as u64 & 0xffff_ffff
}

/// The index in what [`greatest_first`] made.
pub(super) fn index_of(sorted: u64) -> usize {
    usize::try_from(sorted & 0xffff_ffff).unwrap_or(NONE)
}

/// The least of `values`.
pub(super) fn least_of(values: &[f32]) -> f32 {
    let mut strands = [f32::INFINITY; STRANDS];
    let (blocks, rest) = values.as_chunks::<STRANDS>();
    for block in blocks {
        for (strand, value) in strands.iter_mut().zip(block) {
            *strand = smaller(*strand, *value);
        }
    }
    strands.iter().chain(rest).copied().fold(f32::INFINITY, smaller)
}

/// The least of `row` where `shut` is nothing.
pub(super) fn least_open(row: &[f32], shut: &[f32]) -> f32 {
    let mut strands = [f32::INFINITY; STRANDS];
    let (blocks, rest) = row.as_chunks::<STRANDS>();
    let (shut_blocks, shut_rest) = shut.as_chunks::<STRANDS>();
    for (block, shut) in blocks.iter().zip(shut_blocks) {
        for ((strand, cost), shut) in strands.iter_mut().zip(block).zip(shut) {
            *strand = smaller(*strand, cost + shut);
        }
    }
    let rest = rest.iter().zip(shut_rest).map(|(cost, shut)| cost + shut);
    rest.chain(strands).fold(f32::INFINITY, smaller)
}

/// The place of the least of `row` with overload at `lambda` where `load` exceeds `space`, two
/// places excluded; [`NONE`] if there is no finite one.
pub(super) fn cheapest(
    row: &[f32],
    space: &[f32],
    (load, lambda): (f32, f32),
    excluded: [usize; 2],
    prices: &mut [f32],
) -> usize {
    // All prices first, then the least of them: two loops without a branch.
    for ((price, cost), space) in prices.iter_mut().zip(row).zip(space) {
        let short = load - space;
        *price = cost + lambda * if short > 0.0 { short } else { 0.0 };
    }
    for place in excluded {
        if let Some(price) = prices.get_mut(place) {
            *price = f32::INFINITY;
        }
    }
    let least = least_of(prices);
    if least == f32::INFINITY { NONE } else { find(prices, least) }
}

/// The first place of `wanted`.
fn find(values: &[f32], wanted: f32) -> usize {
    let (blocks, rest) = values.as_chunks::<STRANDS>();
    for (block, values) in blocks.iter().enumerate() {
        let mut found = false;
        for value in values {
            found |= *value <= wanted;
        }
        if found {
            let within = values.iter().position(|value| *value <= wanted);
            return block * STRANDS + within.unwrap_or(0);
        }
    }
    let within = rest.iter().position(|value| *value <= wanted);
    within.map_or(NONE, |within| blocks.len() * STRANDS + within)
}

/// Puts what `row` costs with `load` at `prices` into `out`.
pub(super) fn price_row(row: &[f32], prices: &[f32], load: f32, out: &mut [f32]) {
    for ((out, cost), price) in out.iter_mut().zip(row).zip(prices) {
        *out = cost + price * load;
    }
}

/// Adds what would be gained at each place of `row` by one that costs `held` where it is.
pub(super) fn add_gains(row: &[f32], held: f32, gains: &mut [f32]) {
    for (gain, cost) in gains.iter_mut().zip(row) {
        let difference = held - cost;
        *gain += if difference > 0.0 { difference } else { 0.0 };
    }
}

/// Whether a place of `row` that costs less than `held` has changed since `looked`.
pub(super) fn any_newer(row: &[f32], held: f32, changed: &[u32], looked: u32) -> bool {
    let mut found = 0;
    for (cost, changed) in row.iter().zip(changed) {
        found |= u32::from(*cost < held) & u32::from(*changed > looked);
    }
    found != 0
}

/// Places from which on finding a bar first is worth its while.
const MANY: usize = 32;

/// Fills `kept` with the cheapest places of `row`, cheapest first, where `shut` is nothing. Equals
/// are taken from `offset` on, then from the beginning. There must be as many as `kept` is long.
pub(super) fn keep_cheapest(row: &[f32], shut: &[f32], offset: usize, kept: &mut [(f32, u32)]) {
    let mut count = 0;
    // What is above this is not among the cheapest.
    let mut worst = if row.len() > MANY { bar(row, shut, kept.len()) } else { f32::INFINITY };
    for (first, row, shut) in
        [(offset, &row[offset..], &shut[offset..]), (0, &row[..offset], &shut[..offset])]
    {
        let blocks = row.chunks(STRANDS).zip(shut.chunks(STRANDS));
        for (block, (row, shut)) in blocks.enumerate() {
            let mut found = false;
            for (cost, shut) in row.iter().zip(shut) {
                found |= cost + shut <= worst;
            }
            if !found {
                continue;
            }
            for (place, (cost, shut)) in (first + block * STRANDS..).zip(row.iter().zip(shut)) {
                let cost = cost + shut;
                let full = count == kept.len();
                if cost > worst || (full && cost >= worst) {
                    continue;
                }
                let mut rank = if full { count - 1 } else { count };
                while rank > 0 && kept[rank - 1].0 > cost {
                    kept[rank] = kept[rank - 1];
                    rank -= 1;
                }
                kept[rank] = (cost, u32::try_from(place).unwrap_or(0));
                count += usize::from(!full);
                if count == kept.len() {
                    worst = kept[count - 1].0;
                }
            }
        }
    }
}

/// A number that at least `count` of `row` do not exceed, and hardly more.
fn bar(row: &[f32], shut: &[f32], count: usize) -> f32 {
    const COLUMNS: usize = 16;
    let mut least = [f32::INFINITY; COLUMNS];
    for (row, shut) in row.chunks(COLUMNS).zip(shut.chunks(COLUMNS)) {
        for ((least, cost), shut) in least.iter_mut().zip(row).zip(shut) {
            *least = smaller(*least, cost + shut);
        }
    }
    let mut bar = f32::INFINITY;
    for value in least {
        let mut below = 0u32;
        for other in least {
            below += u32::from(other <= value);
        }
        if below as usize >= count {
            bar = smaller(bar, value);
        }
    }
    bar
}

//! Packs, as far as the backends do the same: what one removes, and how an order is written.

use neo_api::{
    BackendError, BackendResult, ObsoletePage, Oid, PackOrder, Partition, RevisionId, Tid,
};

/// A revision among those of a partition in order of (oid, tid).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) id: RevisionId,
    pub(crate) is_deletion: bool,
}

/// How many rows [`obsolete`] is to be given for a page.
pub(crate) fn rows(limit: usize) -> usize {
    limit.max(1).saturating_add(1)
}

/// A page of what a pack removes, from as many rows as [`rows`] says, or all that there are.
pub(crate) fn obsolete(found: &[Row], at: Tid, limit: usize) -> ObsoletePage {
    let is_cut = found.len() >= rows(limit);
    let mut page = ObsoletePage::default();
    let mut objects = found.chunk_by(|one, next| one.id.oid == next.id.oid);
    let last = if is_cut { objects.next_back() } else { None };
    for object in objects {
        add(&mut page, object, at);
    }
    let (Some(last), Some(oid)) = (last, last.and_then(<[Row]>::first).map(|row| row.id.oid))
    else {
        return page;
    };
    // More of its revisions may follow, but none of them matters.
    let is_whole = last.iter().any(|row| row.id.tid > at);
    if is_whole {
        add(&mut page, last, at);
        page.next = oid.checked_next();
        return page;
    }
    page.next = Some(oid);
    if last.len() == found.len()
        && let Some((_, before)) = last.split_last()
    {
        page.revisions.extend(before.iter().map(|row| row.id));
    }
    page
}

/// Adds what goes of an object, of which these are all revisions that matter.
fn add(page: &mut ObsoletePage, object: &[Row], at: Tid) {
    let old = object.iter().take_while(|row| row.id.tid <= at).count();
    let Some(newest) = old.checked_sub(1).and_then(|newest| object.get(newest)) else {
        return;
    };
    let gone = if newest.is_deletion { old } else { old - 1 };
    page.revisions
        .extend(object.iter().take(gone).map(|row| row.id));
}

/// `kind u8 (0: all objects, 1: these), at u64, oids u64 each`, big-endian
pub(crate) fn encode_order(order: &PackOrder) -> Vec<u8> {
    let mut bytes = vec![u8::from(order.oids.is_some())];
    bytes.extend(order.at.to_bytes());
    let oids = order.oids.iter().flatten();
    bytes.extend(oids.flat_map(|oid| oid.to_bytes()));
    bytes
}

/// Reads what [`encode_order`] wrote.
pub(crate) fn decode_order(bytes: &[u8]) -> BackendResult<PackOrder> {
    let damaged = || BackendError::Corrupt("an order to pack cannot be read".to_owned());
    let (kind, rest) = bytes.split_first().ok_or_else(damaged)?;
    let (at, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
    let (oids, none) = rest.as_chunks();
    let oids: Vec<Oid> = oids.iter().copied().map(Oid::from_bytes).collect();
    let oids = match kind {
        0 if oids.is_empty() => None,
        1 => Some(oids),
        _ => return Err(damaged()),
    };
    if !none.is_empty() {
        return Err(damaged());
    }
    let at = Tid(u64::from_be_bytes(*at));
    Ok(PackOrder { at, oids })
}

/// An order that was listed without its transaction.
pub(crate) fn lost_order(partition: Partition, tid: Tid) -> BackendError {
    BackendError::Corrupt(format!(
        "transaction {tid} of partition {partition} has no order to pack"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(text: &str) -> Vec<Row> {
        let row = |word: &str| {
            let is_deletion = word.ends_with('x');
            let (oid, tid) = word.trim_end_matches('x').split_once('@').unwrap();
            let (oid, tid) = (Oid(oid.parse().unwrap()), Tid(tid.parse().unwrap()));
            let id = RevisionId { tid, oid };
            Row { id, is_deletion }
        };
        text.split_whitespace().map(row).collect()
    }

    /// What a pack removes page by page, and how often it looked.
    fn packed(mut left: Vec<Row>, at: u64, limit: usize) -> (String, usize) {
        let (mut gone, mut next, mut pages) = (Vec::new(), Some(Oid(0)), 0);
        while let Some(min) = next {
            let found: Vec<Row> = left
                .iter()
                .filter(|row| row.id.oid >= min)
                .copied()
                .collect();
            let found = &found[..found.len().min(rows(limit))];
            let page = obsolete(found, Tid(at), limit);
            assert!(page.next > Some(min) || !page.revisions.is_empty() || page.next.is_none());
            left.retain(|row| !page.revisions.contains(&row.id));
            gone.extend(page.revisions);
            next = page.next;
            pages += 1;
        }
        let show = |id: &RevisionId| format!("{}@{}", id.oid.0, id.tid.0);
        let gone: Vec<_> = gone.iter().map(show).collect();
        (gone.join(" "), pages)
    }

    #[test]
    fn the_newest_at_the_tid_stays_unless_it_is_a_deletion() {
        let all = "1@10 1@20 1@30 1@40 2@15 3@10 3@20x 3@50 4@20x 5@50 6@10x 6@20 7@20x 7@40x";
        for (at, gone) in [
            (9, ""),
            (10, "6@10"),
            (30, "1@10 1@20 3@10 3@20 4@20 6@10 7@20"),
            (29, "1@10 3@10 3@20 4@20 6@10 7@20"),
            (90, "1@10 1@20 1@30 3@10 3@20 4@20 6@10 7@20 7@40"),
        ] {
            for limit in [1, 2, 3, 5, 100] {
                assert_eq!(packed(rows_of(all), at, limit).0, gone, "at {at}, {limit}");
            }
        }
    }

    #[test]
    fn a_page_looks_at_few_revisions_however_many_an_object_has() {
        let many: Vec<String> = (1..=100).map(|tid| format!("1@{tid}")).collect();
        let (gone, pages) = packed(rows_of(&many.join(" ")), 1_000, 10);
        assert_eq!(gone.split(' ').count(), 99);
        assert!((9..=12).contains(&pages), "{pages} pages");
        // What came later is not looked at.
        assert_eq!(packed(rows_of(&many.join(" ")), 1, 10), (String::new(), 2));
    }

    #[test]
    fn an_order_is_read_back_and_damage_is_no_panic() {
        for oids in [None, Some(Vec::new()), Some(vec![Oid(1), Oid(u64::MAX)])] {
            let order = PackOrder { at: Tid(7), oids };
            let bytes = encode_order(&order);
            assert_eq!(decode_order(&bytes).unwrap(), order);
            for length in 0..bytes.len() {
                let cut = decode_order(&bytes[..length]);
                assert!(cut.is_err() || length % 8 == 1);
            }
        }
        assert!(decode_order(&[2; 9]).is_err() && decode_order(&[0; 17]).is_err());
    }
}

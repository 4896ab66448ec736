//! A list in a line of text that names nothing twice.

use std::collections::HashSet;
use std::ops::Range;

/// Longer lists are not searched item by item.
const FEW: usize = 32;

/// See the module.
pub(super) struct Listed {
    /// The items with a separator between them.
    pub(super) text: String,
    separator: &'static str,
    items: Vec<Range<usize>>,
    /// The items once more, where there are more than a few.
    many: HashSet<String>,
}

impl Listed {
    pub(super) fn new(separator: &'static str) -> Self {
        Listed { text: String::with_capacity(64), separator, items: Vec::with_capacity(8), many: HashSet::new() }
    }

    /// Whether it is an item.
    pub(super) fn holds(&self, item: &str) -> bool {
        if self.items.len() > FEW {
            return self.many.contains(item);
        }
        self.items.iter().any(|range| &self.text[range.clone()] == item)
    }

    /// One more item, unless it is one already.
    pub(super) fn add(&mut self, item: &str) {
        if self.holds(item) {
            return;
        }
        if !self.items.is_empty() {
            self.text.push_str(self.separator);
        }
        let start = self.text.len();
        self.text.push_str(item);
        self.items.push(start..self.text.len());
        if self.items.len() > FEW {
            let missing = if self.many.is_empty() { &self.items[..] } else { &self.items[self.items.len() - 1..] };
            self.many.extend(missing.iter().map(|range| self.text[range.clone()].to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_stands_once_in_a_short_list_and_in_a_long_one() {
        for count in [3, FEW, FEW + 1, 5 * FEW] {
            let mut listed = Listed::new("; ");
            for _ in 0..2 {
                (0..count).for_each(|item| listed.add(&item.to_string()));
            }
            assert_eq!(listed.text, (0..count).map(|item| item.to_string()).collect::<Vec<_>>().join("; "));
            assert!(listed.holds("0") && !listed.holds(&count.to_string()));
        }
    }
}

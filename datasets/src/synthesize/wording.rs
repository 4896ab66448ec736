//! The sentences of the built-in problems. `{n}` a name, `{m}` another, `{o}` the things counted, `{a}` and `{b}`
//! numbers.

/// How a story begins: one number.
pub(super) const OPENINGS: [&str; 12] = [
    "{n} has {a} {o}.",
    "{n} starts the day with {a} {o}.",
    "There are {a} {o} in the box of {n}.",
    "{n} counts {a} {o} on the table.",
    "At first {n} owns {a} {o}.",
    "A shelf of {n} holds {a} {o}.",
    "{n} finds {a} {o} at home.",
    "In the morning {n} packs {a} {o}.",
    "{n} gets {a} {o} from a friend.",
    "A bag of {n} contains {a} {o}.",
    "{n} brings {a} {o} to school.",
    "The shop gives {n} {a} {o}.",
];

/// What adds a number.
pub(super) const ADDITIONS: [&str; 12] = [
    "Then {n} buys {a} more {o}.",
    "{m} gives {n} {a} {o}.",
    "{n} finds {a} {o} in the garden.",
    "After that {n} wins {a} {o}.",
    "{n} gets {a} extra {o}.",
    "A neighbor adds {a} {o}.",
    "{n} makes {a} new {o}.",
    "Later {a} {o} arrive by mail.",
    "{n} picks up {a} {o} on the way.",
    "{m} puts {a} {o} on top.",
    "{n} borrows {a} {o} from {m}.",
    "Another {a} {o} come in.",
];

/// What takes a number away.
pub(super) const SUBTRACTIONS: [&str; 12] = [
    "Then {n} gives {a} {o} to {m}.",
    "{n} loses {a} {o}.",
    "{n} sells {a} {o}.",
    "{m} takes {a} {o} away.",
    "After that {a} {o} break.",
    "{n} uses {a} {o}.",
    "{a} {o} get lost on the way.",
    "{n} hands {a} {o} to a teacher.",
    "{n} leaves {a} {o} behind.",
    "{n} throws away {a} old {o}.",
    "Later {n} returns {a} {o}.",
    "{n} lends {a} {o} to {m}.",
];

/// What multiplies by a number.
pub(super) const MULTIPLICATIONS: [&str; 8] = [
    "Then the number of {o} grows to {a} times as many.",
    "{n} trades them and gets {a} times as many {o}.",
    "A machine turns each one into {a} {o}.",
    "With luck {n} ends up with {a} times that many {o}.",
    "{m} has {a} times as many {o} and swaps with {n}.",
    "Every one of them is replaced by {a} {o}.",
    "The pile becomes {a} times as large.",
    "{n} repeats this until there are {a} times as many {o}.",
];

/// What divides by a number.
pub(super) const DIVISIONS: [&str; 8] = [
    "{n} shares them equally among {a} friends and looks at one share.",
    "They are split into {a} equal piles and {n} keeps one pile.",
    "{n} packs them into {a} equal boxes and takes one box.",
    "Only one out of every {a} is kept.",
    "{a} children divide them fairly and {n} is one of them.",
    "{n} puts them in {a} equal rows and keeps one row.",
    "The pile shrinks to one part in {a}.",
    "A team of {a} shares them and {n} gets one part.",
];

/// What adds a product of two numbers.
pub(super) const GROUPS_IN: [&str; 8] = [
    "Then {n} buys {a} bags with {b} {o} each.",
    "{m} brings {a} boxes of {b} {o}.",
    "{a} friends give {n} {b} {o} each.",
    "For {a} days {n} gets {b} {o} a day.",
    "{n} fills {a} trays with {b} more {o} each.",
    "{a} packs of {b} {o} arrive.",
    "{n} wins {b} {o} in each of {a} games.",
    "{n} adds {a} rows of {b} {o}.",
];

/// What takes a product of two numbers away.
pub(super) const GROUPS_OUT: [&str; 6] = [
    "Then {n} gives {a} friends {b} {o} each.",
    "{n} sells {a} packs of {b} {o}.",
    "For {a} days {n} uses {b} {o} a day.",
    "{a} boxes with {b} {o} each are lost.",
    "{m} takes {a} bags of {b} {o}.",
    "{n} loses {b} {o} in each of {a} games.",
];

/// What is asked.
pub(super) const QUESTIONS: [&str; 6] = [
    "How many {o} does {n} have now?",
    "How many {o} are there at the end?",
    "What is the number of {o} now?",
    "How many {o} are left with {n}?",
    "With how many {o} does {n} finish?",
    "Find the final number of {o}.",
];

pub(super) const NAMES: [&str; 20] = [
    "Mia", "Tom", "Anna", "Ben", "Lan", "Minh", "Sara", "Omar", "Lucy", "Paul", "Nina", "Hugo", "Vera", "Ivan", "Rosa",
    "Kofi", "Mai", "Leo", "Tina", "Sam",
];

pub(super) const OBJECTS: [&str; 20] = [
    "apples", "books", "coins", "stamps", "marbles", "pencils", "cards", "shells", "cookies", "stickers", "eggs",
    "oranges", "toys", "cups", "flowers", "stones", "tickets", "balls", "buttons", "candles",
];

/// A line of VERIFY that agrees.
pub(crate) const AGREES: [&str; 4] = [", ok", ", right", ", as written", ", holds"];

/// A line of VERIFY that does not; `{w}` what EXECUTE wrote.
pub(crate) const DIFFERS: [&str; 4] = [", not {w}", ", but EXECUTE has {w}", " instead of {w}", ", {w} is wrong"];

/// The verdict on a right trace.
pub(super) const ALL_RIGHT: [&str; 4] =
    ["All steps hold.", "No error found.", "Every step is right.", "The check agrees."];

/// The verdict on a wrong one; `{k}` the step's number.
pub(crate) const ONE_WRONG: [&str; 4] =
    ["Step {k} was wrong.", "The error is in step {k}.", "EXECUTE slipped in step {k}.", "So step {k} is corrected."];

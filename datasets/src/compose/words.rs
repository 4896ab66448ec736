//! The words of composed stages, by language.

use crate::arithmetic::{Exact, Operator};

/// Languages that stages can be composed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    English,
    Vietnamese,
}

impl Words {
    /// Those of a language tag; English for all that is not `vi`.
    pub(super) fn of(language: &str) -> Self {
        if language == "vi" { Words::Vietnamese } else { Words::English }
    }

    fn choose(self, english: &'static str, vietnamese: &'static str) -> &'static str {
        if self == Words::English { english } else { vietnamese }
    }

    pub(super) fn given(self) -> &'static str {
        self.choose("Given", "Cho")
    }

    pub(super) fn also_used(self) -> &'static str {
        self.choose("Also used", "Dùng thêm")
    }

    pub(super) fn goal(self) -> &'static str {
        self.choose("Goal", "Yêu cầu")
    }

    /// Between the numbers of a list, where a comma may be part of a number.
    pub(super) fn separator(self) -> &'static str {
        self.choose(", ", "; ")
    }

    /// Before a step's number.
    pub(super) fn step(self) -> &'static str {
        self.choose("step ", "bước ")
    }

    /// Before a whole calculation.
    pub(super) fn calculate(self) -> &'static str {
        self.choose("Calculate ", "Tính ")
    }

    /// What stands before, between and after the operands of an operation, and whether the left one comes first.
    pub(super) fn operation(self, operator: Operator) -> ([&'static str; 3], bool) {
        match (self, operator) {
            (Words::English, Operator::Add) => (["Add ", " to ", ""], false),
            (Words::English, Operator::Subtract) => (["Subtract ", " from ", ""], false),
            (Words::English, Operator::Multiply) => (["Multiply ", " by ", ""], true),
            (Words::English, Operator::Divide) => (["Divide ", " by ", ""], true),
            (Words::English, Operator::FloorDivide) => (["Divide ", " by ", " and round down"], true),
            (Words::Vietnamese, Operator::Add) => (["Cộng ", " với ", ""], true),
            (Words::Vietnamese, Operator::Subtract) => (["Lấy ", " trừ ", ""], true),
            (Words::Vietnamese, Operator::Multiply) => (["Nhân ", " với ", ""], true),
            (Words::Vietnamese, Operator::Divide) => (["Chia ", " cho ", ""], true),
            (Words::Vietnamese, Operator::FloorDivide) => (["Chia ", " cho ", ", lấy phần nguyên"], true),
        }
    }

    /// Before a base and between it and its exponent.
    pub(super) fn power(self) -> [&'static str; 2] {
        match self {
            Words::English => ["Raise ", " to the power "],
            Words::Vietnamese => ["Nâng ", " lên lũy thừa "],
        }
    }

    /// Ends a VERIFY that undid every step.
    pub(super) fn undone(self) -> &'static str {
        self.choose("Each step undone gives back what it began with.", "Tính ngược từng bước đều cho lại số ban đầu.")
    }

    /// PLAN where the solution calculates nothing with plain numbers.
    pub(super) fn reason(self) -> &'static str {
        self.choose("Go from what is given to the goal.", "Đi từ giả thiết đến yêu cầu.")
    }

    /// Before a term that the solution works out.
    pub(super) fn work_out(self, term: &str) -> String {
        format!("{} {term}", self.choose("Work out", "Tìm"))
    }

    /// VERIFY where nothing can be recomputed.
    pub(super) fn nothing_to_recompute(self) -> &'static str {
        self.choose(
            "The steps hold no sum of plain numbers, so nothing here was recomputed.",
            "Các bước không có phép tính số nào, nên không có gì được tính lại.",
        )
    }

    /// Writes a number as the language does.
    pub(super) fn push_number(self, text: &mut String, value: &Exact) {
        let start = text.len();
        super::push_number(text, value);
        self.spell_numbers(text, start);
    }

    /// The numbers from byte `start` on as the language writes them.
    pub(super) fn spell_numbers(self, text: &mut String, start: usize) {
        if self == Words::Vietnamese && text[start..].contains('.') {
            let numbers = text.split_off(start);
            text.push_str(&numbers.replace('.', ","));
        }
    }
}

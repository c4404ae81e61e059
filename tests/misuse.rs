//! Wrong use that the compiler refuses.

#[test]
fn what_must_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/misuse/*.rs");
}

// holdfast: runs what the two translation units that include every header define.
// SPDX-License-Identifier: BSL-1.0
int unit_1();
int unit_2();

int main() { return unit_1() + unit_2(); }

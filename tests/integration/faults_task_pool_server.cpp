// holdfast: does task_pool_server survive when its n-th operation fails, whichever that is, and parts of jobs are at
// work meanwhile?
// SPDX-License-Identifier: BSL-1.0
#include "support/example_faults.hpp"

namespace {

// A part is ten numbers: a job "1 30" gets three answers.
const tested_program tested{"--max-connections 3 --parts-per-client 2 --at-once 1 --part 10 --drain 5s", 1,
                            [](client& witness) {
                                witness.send("1 30\n");
                                return witness.lines(3);
                            }};

} // namespace

// In all of them: nothing is left open, each connection was finalized, and others are served.

TEST_CASE("any system call on a socket may fail, while clients send jobs, and leave with or without a close")
{
    any_operation_may_fail({"three ways to go", [](stage& s) {
                                client orderly(s.where);
                                orderly.send("1 30\nwhat\n");
                                orderly.lines(4);
                                orderly.half_close();
                                orderly.read_to_end();
                                client resetting(s.where);
                                resetting.send("1 40\n");
                                resetting.lines(1);
                                resetting.reset();
                                s.staying.emplace_back(s.where).send("1 20"); // and no end of the line
                            }});
}

TEST_CASE("any system call on a socket may fail, while clients send all jobs at once, or too many, or leave")
{
    any_operation_may_fail({"all at once", [](stage& s) {
                                client pipelining(s.where);
                                pipelining.send("1 30\n1 20\n1 10\n");
                                pipelining.half_close();
                                pipelining.read_to_end();
                                client endless(s.where);
                                endless.send("1 50\n" + std::string(100, '1')); // more than a line may have
                                endless.read_to_end();
                                client(s.where).reset();
                            }});
}

TEST_CASE("any system call on a socket may fail, while a client sends no job for too long")
{
    any_operation_may_fail({"silence",
                            [](stage& s) {
                                client silent(s.where);
                                silent.send("1 20\n");
                                silent.lines(2);
                                silent.read_to_end();
                            },
                            "--timeout 1s"});
}

TEST_CASE("any system call on a socket may fail, while clients read slowly, or not before the server drains")
{
    any_operation_may_fail({"slow readers",
                            [](stage& s) {
                                client slow(s.where);
                                slow.send("1 60\n");
                                slow.lines(6, 50);
                                slow.half_close();
                                slow.read_to_end();
                                s.staying.emplace_back(s.where).send("1 60\n");
                            },
                            {},
                            true});
}

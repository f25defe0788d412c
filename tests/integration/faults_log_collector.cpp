// holdfast: does log_collector survive when its n-th operation fails, whichever that is?
// SPDX-License-Identifier: BSL-1.0
#include "support/example_faults.hpp"

namespace {

void ask(client& reader, std::string_view path, std::string_view headers = "")
{
    reader.send("GET " + std::string(path) + " HTTP/1.1\r\nHost: here\r\n" + std::string(headers) + "\r\n");
}

constexpr std::ptrdiff_t head_lines = 7;

const tested_program tested{"--http-port 0 --max-programs 3 --max-readers 3 --timeout 60s --drain 5s", 2,
                            [](client& witness) {
                                ask(witness, "/logs?last=1000");
                                return witness.lines(head_lines);
                            }};

void put_varint(std::string& out, std::size_t value)
{
    for (; value > 127; value >>= 7)
        out += static_cast<char>(value | 128);
    out += static_cast<char>(value);
}

/// A batch of n records with messages of that length, as protoc's classes write it, and its length.
std::string batch(int n, std::size_t message)
{
    std::string record("\x08\x01\x10\x02\x1a\x07"
                       "billing"
                       "\x22"); // time 1, level 2, service, message
    put_varint(record, message);
    record += std::string(message, 'x');
    std::string all;
    for (int i = 0; i != n; ++i) {
        all += '\x0a';
        put_varint(all, record.size());
        all += record;
    }
    std::string framed;
    put_varint(framed, all.size());
    return framed + all;
}

/// Two programs send the same: the one fault can keep one from it.
void feed(stage& s, const std::string& sent)
{
    for (int i = 0; i != 2; ++i) {
        client program(s.first_door);
        program.send(sent);
        program.half_close();
        program.read_to_end();
    }
}

} // namespace

// In all of them: nothing is left open, each connection was finalized, and others are served.

TEST_CASE("any system call on a socket may fail, while a program sends and readers follow, each in its way")
{
    any_operation_may_fail({"programs and readers", [](stage& s) {
                                client program(s.first_door);
                                program.send(batch(2, 20));
                                client reader(s.where);
                                ask(reader, "/logs?last=1&level=warn");
                                reader.lines(head_lines);
                                program.send(batch(1, 20));
                                reader.half_close();
                                reader.read_to_end();
                                client of_events(s.where);
                                ask(of_events, "/logs?last=2",
                                    "Accept: text/event-stream\r\nAccept-Encoding: gzip\r\n");
                                of_events.lines(head_lines);
                                of_events.reset();
                                client curious(s.where);
                                ask(curious, "/status");
                                curious.read_to_end();
                                program.half_close();
                                program.read_to_end();
                            }});
}

TEST_CASE("any system call on a socket may fail, while a program and readers speak no sense")
{
    any_operation_may_fail({"no sense", [](stage& s) {
                                client program(s.first_door);
                                program.send(std::string(11, '\xff')); // a length without an end
                                program.read_to_end();
                                client lost(s.where);
                                ask(lost, "/nowhere");
                                lost.read_to_end();
                                client endless(s.where);
                                endless.send(std::string(6000, 'x'));
                                endless.half_close();
                                endless.read_to_end();
                                s.staying.emplace_back(s.where).send("GET /lo"); // and no end of the request
                            }});
}

TEST_CASE("any system call on a socket may fail, while readers are slow, or do not read before the server drains")
{
    any_operation_may_fail({"slow readers",
                            [](stage& s) {
                                feed(s, batch(8, 900));
                                client slow(s.where);
                                ask(slow, "/logs?last=4");
                                slow.lines(head_lines + 1 + 4,
                                           500); // the length of the first chunk, four records
                                slow.half_close();
                                slow.read_to_end();
                                client& late = s.staying.emplace_back(s.where);
                                ask(late, "/logs?last=8");
                            },
                            {},
                            true});
}

TEST_CASE("any system call on a socket may fail, while a reader takes nothing and is aborted at the deadline")
{
    any_operation_may_fail({"no reader",
                            [](stage& s) {
                                feed(s, batch(20, 3000));
                                client& non_reader = s.mute.emplace_back(s.where, 2048);
                                ask(non_reader, "/logs?last=20");
                            },
                            "--drain 500ms"});
}

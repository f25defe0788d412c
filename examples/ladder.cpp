// holdfast: ladder, which opens more and more connections to any TCP server and judges its memory.
// SPDX-License-Identifier: BSL-1.0
//
//     ladder --port 7777
//         climbs to 10,000 connections, with the default mix of clients
//     ladder --port 7777 --budget-bytes 4k --json a.json
//         fails above 4 KiB a connection, and writes the figures to a file
//     ladder --join a.json b.json --report both.html
//         shows several runs in one table and one chart
//
//     ladder --port 7777 --tls --ca certificate.pem
//         the same over TLS
//     ladder --port 7777 --ws /chat --hello '{"subscribe":"all"}'
//         the clients open a WebSocket; the hello and the answers are text messages, pings are answered
//     ladder --port 7777 --sse /events
//         the clients read server-sent events
//
// Linux. Plain sockets and epoll, so that the load is light and shares no code with what it measures. In support/:
// ladder_plan.hpp (options), ladder_clients.hpp, ladder_http.hpp, ladder_tls.hpp and ladder_load.hpp (the load), ladder_server.hpp and
// ladder_sockets.hpp (the server's figures), ladder_climb.hpp (the run), ladder_verdict.hpp (the verdict),
// ladder_report.hpp, ladder_json.hpp and ladder_chart.hpp (the output).

#include "support/command_line.hpp"
#include "support/ladder_chart.hpp"
#include "support/ladder_climb.hpp"
#include "support/ladder_json.hpp"
#include "support/ladder_plan.hpp"
#include "support/ladder_report.hpp"
#include "support/ladder_server.hpp"
#include "support/ladder_verdict.hpp"

#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

namespace {

/// The output files; an empty name writes none.
struct outputs {
    std::string json, report, svg;
};

[[noreturn]] void cannot_write(const std::string& path)
{
    throw examples::usage_error("cannot write '" + path + "': check the folder and its permissions");
}

/// Checks the files before the climb: an error after it would lose the figures.
void check_writable(const outputs& files)
{
    for (const std::string& path : {files.json, files.report, files.svg})
        if (!path.empty() && !std::ofstream{path, std::ios::app}) cannot_write(path);
}

template <class Write>
void write_file(const std::string& path, Write&& write)
{
    if (path.empty()) return;
    std::ofstream file{path};
    write(file);
    if (!file.flush()) cannot_write(path);
}

/// Raises the limit of open files to the hard limit, and returns it.
std::uint64_t raise_descriptor_limit()
{
    std::error_code error;
    holdfast::raise_descriptor_limit(holdfast::read_descriptor_limits(error).hard, error);
    return holdfast::read_descriptor_limits(error).soft;
}

int climb_server(ladder::settings wanted, const outputs& files)
{
    if (wanted.port == 0)
        throw examples::usage_error("--port is missing: give the port on which the server listens (see --help)");
    if (wanted.connect_rate == 0) examples::command_line::fail("connect-rate", "must be at least 1");
    if (wanted.slow_rate == 0) examples::command_line::fail("slow-rate", "must be at least 1");
    if (!wanted.authorities.empty() && !wanted.tls) examples::command_line::fail("ca", "is allowed with --tls only");
    if (wanted.tls) ladder::tls_client_context check(wanted.authorities);
    if (!wanted.websocket_path.empty() && !wanted.events_path.empty())
        examples::command_line::fail("sse", "is not allowed with --ws");
    const auto check_path = [](std::string_view name, const std::string& path) {
        if (!path.empty() && (path.front() != '/' || path.find_first_of(" \r\n") != path.npos))
            examples::command_line::fail(name, "must begin with / and contain no space");
    };
    check_path("ws", wanted.websocket_path);
    check_path("sse", wanted.events_path);

    const ladder::socket_address server = ladder::resolve(wanted.host, wanted.port);
    ladder::probe(wanted, server);
    if (wanted.pid == 0 && !wanted.pid_file.empty()) wanted.pid = ladder::read_pid_file(wanted.pid_file);
    if (wanted.pid == 0) wanted.pid = ladder::find_listener(wanted.port);
    if (wanted.pid == 0)
        throw examples::usage_error("the process that listens there cannot be found: give its id with --pid");
    std::error_code error;
    holdfast::read_process_memory(wanted.pid, error);
    if (error) throw examples::usage_error("there is no process " + std::to_string(wanted.pid) + ": check --pid");
    holdfast::read_open_descriptors(wanted.pid, error);
    if (error)
        throw examples::usage_error("no permission to read the descriptors of process " + std::to_string(wanted.pid) +
                                    ": run the ladder as the server's user, or as root");
    if (wanted.title.empty()) wanted.title = "process " + std::to_string(wanted.pid);

    const ladder::machine_limits limits{raise_descriptor_limit(), ladder::descriptors_left(wanted.pid),
                                        holdfast::read_machine_memory(error).available};
    const ladder::climb_plan plan = ladder::make_plan(wanted.rungs, wanted.processes, limits);
    ladder::run_record run;
    if (!plan.shrunk_because.empty()) {
        run.note = "rungs end at " + ladder::format_count(plan.rungs.back()) + ": " + plan.shrunk_because;
        std::cout << run.note << std::endl;
    }
    run.title = wanted.title;
    run.server = wanted.host + ":" + std::to_string(wanted.port) + ", process " + std::to_string(wanted.pid);
    run.mix = wanted.mix_text;
    run.budget_bytes = wanted.budget_bytes;
    ladder::climb climb{wanted, plan, server};
    run.points = climb.run();
    run.judgement = ladder::judge(
        run.points,
        {.budget_bytes = wanted.budget_bytes, .line = wanted.line, .may_keep_percent = wanted.may_keep_percent});
    if (const auto restarts = climb.restarts()) run.judgement.findings.push_back(*restarts);

    ladder::print_run(std::cout, run);
    write_file(files.json, [&](std::ostream& out) { ladder::write_json(out, run); });
    write_file(files.report, [&](std::ostream& out) { ladder::write_html(out, {run}); });
    write_file(files.svg, [&](std::ostream& out) { ladder::write_svg(out, {run}); });
    return run.judgement.pass() ? 0 : 1;
}

/// Shows several runs in one report. Fails where the last one's growth is above the given share of the first one's.
int join_runs(const std::vector<std::string>& paths, double at_most, const outputs& files)
{
    std::vector<ladder::run_record> runs;
    for (const std::string& path : paths) {
        std::ifstream in{path};
        if (!in) throw examples::usage_error("cannot read '" + path + "': give files that --json has written");
        for (ladder::run_record& run : ladder::read_json(in, path))
            runs.push_back(std::move(run));
    }
    if (runs.empty())
        throw examples::usage_error("--join needs the names of files that --json has written (see --help)");
    ladder::print_joint(std::cout, runs);
    write_file(files.report, [&](std::ostream& out) { ladder::write_html(out, runs); });
    write_file(files.svg, [&](std::ostream& out) { ladder::write_svg(out, runs); });

    const auto share = ladder::share_of_first(runs);
    if (!share || runs.size() < 2) return at_most > 0 ? 1 : 0;
    const bool good = at_most <= 0 || share->second <= at_most;
    char text[160];
    std::snprintf(text, sizeof text, "%s at %s connections, %s has grown by %.1f %% of what %s has",
                  good ? "ok:" : "FAIL:", ladder::format_count(share->first).c_str(), runs.back().title.c_str(),
                  100 * share->second, runs.front().title.c_str());
    std::cout << text << std::endl;
    return good ? 0 : 1;
}

int run(int argc, char** argv)
{
    ladder::settings wanted;
    outputs files;
    std::string rungs = "500,1000,2000,5000,10000", answer, later = "all", sources, line;
    wanted.mix_text = "idle=70,slow=10,silent=10,half-closed=5,aborting=5";
    examples::byte_count slow_rate{wanted.slow_rate}, receive_buffer{wanted.receive_buffer}, budget;
    double at_most = 0;
    bool join = false;
    std::vector<std::string> to_join;

    examples::command_line cli{
        "ladder",
        "Opens more and more connections to a TCP server (a climb over rungs), closes them, repeats this until "
        "two climbs agree, and judges the server's memory.\n"
        "Exit status: 0 pass, 1 fail, 2 nothing could be measured."};
    cli.add("port", wanted.port, "N", "where the server listens");
    cli.add("host", wanted.host, "HOST", "the server's address; it must run on this machine");
    cli.add("pid", wanted.pid, "PID", "the server's process; 0: the process that listens on the port");
    cli.add("pid-file", wanted.pid_file, "FILE",
            "a file with the server's process id, which may change: closed clients then connect again");
    cli.add("tls", wanted.tls, "connect over TLS");
    cli.add("ca", wanted.authorities, "FILE",
            "with --tls: PEM certificates that the server's must be issued by, for --host; empty: any will do");
    cli.add("ws", wanted.websocket_path, "PATH",
            "open a WebSocket there on each connection; hello and replies are text messages, pings are answered");
    cli.add("sse", wanted.events_path, "PATH", "read server-sent events from there on each connection");
    cli.add("title", wanted.title, "NAME", "the server's name in the report");
    cli.add("rungs", rungs, "N,N,...", "connections at each rung");
    cli.add("mix", wanted.mix_text, "KIND=SHARE,...", "kinds of clients: idle, slow, silent, half-closed, aborting");
    cli.add("slow-rate", slow_rate, "BYTES", "bytes that a slow client reads in a second");
    cli.add("receive-buffer", receive_buffer, "BYTES", "SO_RCVBUF of slow and silent clients");
    cli.add("hello", wanted.hello, "TEXT",
            R"(text that all but silent clients send once connected; with \n, \r, \t, \0, \\)");
    cli.add("answer", answer, "PATTERN=REPLY", "clients that read send REPLY for each PATTERN that they receive");
    cli.add("aborts", wanted.aborts, "N", "how often an aborting client resets its connection before it stays");
    cli.add("connect-rate", wanted.connect_rate, "N", "new connections a second");
    cli.add("settle", wanted.settle, "SECONDS", "a rung is measured after this time without a burst");
    cli.add("rung-deadline", wanted.rung_deadline, "SECONDS", "a rung is measured after this time at the latest");
    cli.add("hold", wanted.hold, "SECONDS", "a rung is measured again after this time");
    cli.add("climbs", wanted.climbs, "N", "climbs at most; fewer where the tops of two in a row agree");
    cli.add("later-climbs", later, "all|top", "the rungs of the climbs after the first");
    cli.add("budget-bytes", budget, "BYTES", "the most RssAnon for each connection; 0: not judged");
    cli.add("plan", line, "BASE+EACH+KERNEL", "the bound that the server states, in bytes, as the examples print it");
    cli.add("may-keep", wanted.may_keep_percent, "PERCENT",
            "part of the growth that may stay after the descent, 8M at least");
    cli.add("processes", wanted.processes, "N", "load processes; 0: as many as needed");
    cli.add("source-addresses", sources, "ADDR,...",
            "addresses of the load processes in turn; for more than 28000 connections");
    cli.add("json", files.json, "FILE", "write one JSON object a line: measurements and verdict");
    cli.add("report", files.report, "FILE", "write an HTML page with chart, tables and verdict");
    cli.add("svg", files.svg, "FILE", "write the chart alone");
    cli.add("join", join, "show the runs of several --json files in one report");
    cli.add("at-most", at_most, "SHARE",
            "with --join: fail where the last run grows by more than this share of the first");
    cli.add_rest(to_join, "FILE...", "with --join: the files");
    if (!cli.parse(argc, argv)) return 0;

    check_writable(files);
    if (join) return join_runs(to_join, at_most, files);
    if (!to_join.empty())
        throw examples::usage_error("'" + to_join.front() + "' is allowed with --join only (see --help)");
    wanted.rungs = ladder::parse_rungs(rungs);
    wanted.line = ladder::stated_line::parse(line);
    wanted.mix = ladder::client_mix::parse(wanted.mix_text);
    wanted.answer = ladder::answer_rule::parse(answer);
    wanted.hello = ladder::unescape(wanted.hello, "hello");
    wanted.slow_rate = slow_rate.value;
    wanted.receive_buffer = receive_buffer.value;
    wanted.budget_bytes = budget.value;
    if (!sources.empty())
        ladder::for_each_part(sources, [&](std::string_view each) { wanted.source_addresses.emplace_back(each); });
    if (wanted.climbs == 0) examples::command_line::fail("climbs", "must be at least 1");
    if (later != "all" && later != "top")
        examples::command_line::fail("later-climbs", "must be all or top, not '" + later + "'");
    if (later == "top") wanted.later_climbs = ladder::later_rungs::top;
    return climb_server(wanted, files);
}

} // namespace

int main(int argc, char** argv) { return examples::run_main(argc, argv, run); }

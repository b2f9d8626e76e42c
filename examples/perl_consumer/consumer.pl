#!/usr/bin/perl
# A consumer of a queue with `pull = true`, by docs/protocol.md and Perl's core modules alone.
#
#   JOBSUP_SOCKET=/run/jobsup/jobsup.sock perl consumer.pl QUEUE HANDLER.pl
#
# HANDLER.pl defines `handle`, which gets a job, a hash with `id`, `payload` and more, and returns its result. What it
# dies of is the failure of the job: a text, or { message => ..., type => ..., final => 1 }. It runs in a process of
# its own, so that the lease is extended meanwhile. SIGTERM ends the consumer after the job that it has.
use strict;
use warnings;
use IO::Handle;
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;
use POSIX ();
use Sys::Hostname;
use Time::HiRes qw(sleep time);

my $FRAME_MAX = 16 * 1024 * 1024;
my $WAIT_MS   = 30_000;
my $LEASE_MS  = $ENV{LEASE_MS} || 60_000;

my ($queue, $handler) = @ARGV;
die "usage: consumer.pl QUEUE HANDLER.pl\n" unless defined $handler;
my $path = $ENV{JOBSUP_SOCKET} or die "JOBSUP_SOCKET names the socket\n";
require($handler =~ m{^/} ? $handler : "./$handler");

my $json     = JSON::PP->new->utf8->allow_nonref;
my $name     = hostname() . ":$$";
my $counter  = 0;
my $stopping = 0;
my $socket;
$SIG{TERM} = $SIG{INT} = sub { $stopping = 1 };
$SIG{PIPE} = 'IGNORE';

until ($stopping) {
    my ($found, $error) = ask('fetch', {
        queue => $queue, jobs_max => 1, lease_ms => 0 + $LEASE_MS, wait_ms => $WAIT_MS, consumer => $name, key => new_key(),
    });
    last if $stopping && !$found;
    die "fetch: $error->{code}: $error->{message}\n" if $error;
    work($_, $found) for @{ $found->{jobs} };
}
exit 0;

# One job, from the moment that it is ours until somebody else knows what became of it.
sub work {
    my ($job, $lease) = @_;
    my ($pid, $pipe) = start($job);
    my $said = hear($pipe, $job, $lease->{lease_s} / 3);
    kill 'KILL', $pid unless $said;
    waitpid $pid, 0;
    return unless $said;    # it is not ours any more
    my %of = (job => $job->{id}, token => $job->{token});
    my (undef, $error) = exists $said->{result}
        ? ask('ack',  { %of, result => $said->{result} })
        : ask('fail', { %of, %{ $said->{error} } });
    return unless $error;
    warn "job $job->{id}: $error->{code}: $error->{message}\n";    # `stale`: somebody else has it, drop what we did
    if ($error->{code} =~ /^(?:invalid_payload|payload_too_large)$/) {
        ask('fail', { %of, message => $error->{message}, type => 'BadResult', final => JSON::PP::true });
    }
}

# The handler, in a process of its own; what it says comes through the pipe.
sub start {
    my ($job) = @_;
    pipe(my $read, my $write) or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    return close($write) && ($pid, $read) if $pid;
    $SIG{TERM} = $SIG{INT} = 'IGNORE';
    close $read;
    my $result = eval { handle($job) };
    my $said   = $@ ? { error => failure($@) } : { result => $result };
    print {$write} eval { $json->encode($said) } // $json->encode({ error => failure("no JSON: $@") });
    close $write;
    POSIX::_exit(0);
}

sub failure {
    my ($error) = @_;
    return { message => "$error", type => 'Died' } unless ref $error eq 'HASH';
    my %told = (message => "$error->{message}");
    $told{type}  = "$error->{type}" if defined $error->{type};
    $told{final} = JSON::PP::true   if $error->{final};
    return \%told;
}

# What the handler says; meanwhile the lease is extended. Nothing, if the job is not ours any more.
sub hear {
    my ($pipe, $job, $every_s) = @_;
    my ($text, $due, $pipes) = ('', time + $every_s, IO::Select->new($pipe));
    while (1) {
        my $left = $due - time;
        if ($pipes->can_read($left > 0 ? $left : 0)) {
            my $count = sysread $pipe, $text, 65_536, length $text;
            next if !defined $count && $!{EINTR};
            last unless $count;
        }
        next if time < $due;
        $due = time + $every_s;
        my ($held, $error) = ask('extend', { token => $job->{token} });
        return if $error && $error->{code} eq 'stale';
        if ($held && grep { $_ == $job->{id} } @{ $held->{cancelled} }) {
            ask('fail', { job => $job->{id}, token => $job->{token}, message => 'it was cancelled' });
            return;
        }
    }
    my $said = eval { $json->decode($text) };
    return $said // { error => { message => 'the handler ended without a word', type => 'Crashed' } };
}

# -- the protocol ------------------------------------------------------------------------------------------------------

# What the daemon answers, or the error that it gives. What was lost on the way is asked again where that does no harm:
# a fetch has a key, and an ack its token. A `fail` whose answer was lost has been done, or its lease will run out.
sub ask {
    my ($op, $members) = @_;
    my $pause = 0.005;
    while (1) {
        my ($reply, $sent) = ask_once($op, $members);
        my $error = $reply ? $reply->{error} : undef;
        return ($reply->{ok}, $error) if $reply && !($error && $error->{code} eq 'busy');
        return (undef, { code => 'stopped', message => 'told to stop' }) if $stopping && $op eq 'fetch';
        return (undef, { code => 'unconfirmed', message => 'the answer was lost' }) if $sent && !$reply && $op eq 'fail';
        sleep $pause;
        $pause = $pause * 2 < 0.25 ? $pause * 2 : 0.25;
    }
}

# The reply to one request, if it came, and whether the request was sent whole.
sub ask_once {
    my ($op, $members) = @_;
    $socket ||= IO::Socket::UNIX->new(Peer => $path) or return;
    my $id   = ++$counter;
    my $body = $json->encode({ %$members, v => 1, id => $id, op => $op });
    send_all(pack('N', length $body) . $body) or return broken();
    while (1) {
        my $head = exactly(4, $op) // return (broken(), 1);
        my $size = unpack 'N', $head;
        return (broken(), 1) if $size < 1 || $size > $FRAME_MAX;
        my $text  = exactly($size, $op) // return (broken(), 1);
        my $reply = eval { $json->decode($text) } or return (broken(), 1);
        if (!defined $reply->{id}) {    # it speaks of the connection, and closes it
            broken();
            return ({ error => $reply->{error} });
        }
        return ($reply, 1) if $reply->{id} == $id;
    }
}

sub send_all {
    my ($data) = @_;
    while (length $data) {
        my $sent = syswrite $socket, $data;
        next if !defined $sent && $!{EINTR};
        return unless $sent;
        substr $data, 0, $sent, '';
    }
    return 1;
}

# So many bytes. A fetch that only waits is given up when we are told to stop: what it might get goes back.
sub exactly {
    my ($size, $op) = @_;
    my $data = '';
    while (length $data < $size) {
        unless (IO::Select->new($socket)->can_read($stopping && $op eq 'fetch' ? 0 : 1)) {
            return if $stopping && $op eq 'fetch' && !length $data;
            next;
        }
        my $count = sysread $socket, $data, $size - length $data, length $data;
        next if !defined $count && $!{EINTR};
        return unless $count;
    }
    return $data;
}

sub broken {
    close $socket if $socket;
    undef $socket;
    return undef;    # in a list, too
}

sub new_key {
    open my $random, '<:raw', '/dev/urandom' or die "/dev/urandom: $!\n";
    read $random, my $bytes, 12;
    return unpack 'H*', $bytes;
}

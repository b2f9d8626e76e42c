# The handler that the conformance script asks for: see docs/protocol.md.
use strict;
use warnings;
use Time::HiRes qw(sleep);

sub handle {
    my ($job) = @_;
    my $asked = $job->{payload};
    return $asked unless ref $asked eq 'HASH' && defined $asked->{do};
    die { message => $asked->{message}, type => $asked->{type} } if $asked->{do} eq 'fail';
    sleep $asked->{seconds} if $asked->{do} eq 'sleep';
    return $asked;
}

1;

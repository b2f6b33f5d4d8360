"""What two services need done to the archive: stage, index, judge."""
